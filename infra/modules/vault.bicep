// Secrets of repository hosts. The function app's settings refer to them; their values are in no template's output.
param location string
param tags object
param token string
param controllerPrincipalId string
param logAnalyticsName string

@secure()
param githubWebhookSecret string

@secure()
param githubWebhookSecretBefore string

@secure()
param webhookSecrets string

@secure()
param githubToken string

@secure()
param hostRights string

var github = empty(githubToken) ? {} : { github: { token: githubToken } }
var others = json(empty(webhookSecrets) ? '{}' : webhookSecrets)
var before = empty(githubWebhookSecretBefore) ? [] : [githubWebhookSecretBefore]

resource vault 'Microsoft.KeyVault/vaults@2023-07-01' = {
  name: 'kv-${token}'
  location: location
  tags: tags
  properties: {
    tenantId: subscription().tenantId
    sku: {
      family: 'A'
      name: 'standard'
    }
    enableRbacAuthorization: true
    enablePurgeProtection: true
    softDeleteRetentionInDays: 7
    publicNetworkAccess: 'Enabled'
  }
}

// What azd finds again at the next `azd up`, and what is pasted into GitHub.
resource webhookSecret 'Microsoft.KeyVault/vaults/secrets@2023-07-01' = {
  parent: vault
  name: 'webhook-github'
  properties: {
    value: githubWebhookSecret
  }
}

// The form that the function app's settings have.
resource webhookSecrets 'Microsoft.KeyVault/vaults/secrets@2023-07-01' = {
  parent: vault
  name: 'webhook-secrets'
  properties: {
    value: string(union({ github: concat([githubWebhookSecret], before) }, others))
    contentType: 'application/json'
  }
}

resource hosts 'Microsoft.KeyVault/vaults/secrets@2023-07-01' = {
  parent: vault
  name: 'host-rights'
  properties: {
    value: empty(hostRights) ? string(github) : hostRights
    contentType: 'application/json'
  }
}

resource logs 'Microsoft.OperationalInsights/workspaces@2023-09-01' existing = {
  name: logAnalyticsName
}

// Container groups send their output with this key: they know no other way.
resource logKey 'Microsoft.KeyVault/vaults/secrets@2023-07-01' = {
  parent: vault
  name: 'log-analytics-key'
  properties: {
    value: logs.listKeys().primarySharedKey
  }
}

// Key Vault Secrets User: reading, not writing.
resource controllerReads 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(vault.id, controllerPrincipalId, '4633458b-17de-408a-b874-0445c86b69e6')
  scope: vault
  properties: {
    principalId: controllerPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', '4633458b-17de-408a-b874-0445c86b69e6')
  }
}

output id string = vault.id
output name string = vault.name
output webhookReference string = '@Microsoft.KeyVault(SecretUri=${webhookSecrets.properties.secretUri})'
output hostReference string = '@Microsoft.KeyVault(SecretUri=${hosts.properties.secretUri})'
output logReference string = '@Microsoft.KeyVault(SecretUri=${logKey.properties.secretUri})'
