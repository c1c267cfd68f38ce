// Everything that the controller needs in one resource group. `azd up` calls it; subscriptions.bicep follows once the
// functions are there, since Event Grid looks for them when it makes a subscription.
targetScope = 'subscription'

@minLength(1)
@maxLength(32)
@description('Name of the azd environment; it names the resource group and is part of each name.')
param environmentName string

@description('Azure region that has Flex Consumption.')
param location string

@description('Existing Azure ML workspace to deliver from. Empty: a new one is made.')
param workspaceName string = ''

@description('Resource group of the existing workspace. Empty: the group that this deployment makes.')
param workspaceResourceGroup string = ''

@description('Resource group of the storage account of the existing workspace. Empty: the workspace\'s own group.')
param workspaceStorageResourceGroup string = ''

@description('Storage account of the existing workspace. Needed with workspaceName: jobs write and containers read there.')
param workspaceStorageName string = ''

@description('Region of the existing workspace. Empty: the region of this deployment.')
param workspaceLocation string = ''

@description('Memory of a function instance in MB: 2048 or 4096. azure-ai-ml and a commit in flight need about 700.')
param instanceMemoryMB int = 2048

@description('Most instances of the function app at the same time.')
param maximumInstanceCount int = 40

@description('Delegated subnet for scoring containers, which then have private addresses only. Empty: public addresses.')
param servingSubnetId string = ''

@secure()
@description('Secret of the webhooks at GitHub. azd makes one up and finds it again in the vault.')
param githubWebhookSecret string

@secure()
@description('During a rotation: the secret before, which stays valid beside the new one.')
param githubWebhookSecretBefore string = ''

@secure()
@description('Secrets of webhooks at other hosts as JSON, such as {"gitlab": ["..."]}.')
param webhookSecrets string = ''

@secure()
@description('Token that fetches commits from GitHub and sets their statuses.')
param githubToken string = ''

@secure()
@description('Rights at repository hosts as JSON, such as {"gitlab": {"token": "..."}}, in the place of githubToken.')
param hostRights string = ''

var tags = { 'azd-env-name': environmentName }
var token = toLower(uniqueString(subscription().id, environmentName, location))
var ownWorkspace = empty(workspaceName)
var workspaceGroup = empty(workspaceResourceGroup) ? group.name : workspaceResourceGroup

resource group 'Microsoft.Resources/resourceGroups@2024-03-01' = {
  name: 'rg-${environmentName}'
  location: location
  tags: tags
}

module identities 'modules/identities.bicep' = {
  name: 'identities'
  scope: group
  params: {
    location: location
    tags: tags
    token: token
  }
}

module monitoring 'modules/monitoring.bicep' = {
  name: 'monitoring'
  scope: group
  params: {
    location: location
    tags: tags
    token: token
    controllerPrincipalId: identities.outputs.controllerPrincipalId
  }
}

module storage 'modules/storage.bicep' = {
  name: 'storage'
  scope: group
  params: {
    location: location
    tags: tags
    token: token
    controllerPrincipalId: identities.outputs.controllerPrincipalId
    servingPrincipalId: identities.outputs.servingPrincipalId
  }
}

module vault 'modules/vault.bicep' = {
  name: 'vault'
  scope: group
  params: {
    location: location
    tags: tags
    token: token
    controllerPrincipalId: identities.outputs.controllerPrincipalId
    logAnalyticsName: monitoring.outputs.logAnalyticsName
    githubWebhookSecret: githubWebhookSecret
    githubWebhookSecretBefore: githubWebhookSecretBefore
    webhookSecrets: webhookSecrets
    githubToken: githubToken
    hostRights: hostRights
  }
}

module registry 'modules/registry.bicep' = {
  name: 'registry'
  scope: group
  params: {
    location: location
    tags: tags
    token: token
    controllerPrincipalId: identities.outputs.controllerPrincipalId
    trainingPrincipalId: identities.outputs.trainingPrincipalId
    servingPrincipalId: identities.outputs.servingPrincipalId
  }
}

module workspace 'modules/workspace.bicep' = if (ownWorkspace) {
  name: 'workspace'
  scope: group
  params: {
    location: location
    tags: tags
    token: token
    vaultId: vault.outputs.id
    insightsId: monitoring.outputs.insightsId
    registryId: registry.outputs.id
  }
}

module workspaceRights 'modules/workspace-rights.bicep' = {
  name: 'workspace-rights'
  scope: resourceGroup(ownWorkspace ? group.name : workspaceGroup)
  params: {
    workspaceName: ownWorkspace ? workspace.outputs.name : workspaceName
    controllerPrincipalId: identities.outputs.controllerPrincipalId
    trainingPrincipalId: identities.outputs.trainingPrincipalId
  }
}

module workspaceStorageRights 'modules/workspace-storage-rights.bicep' = {
  name: 'workspace-storage-rights'
  scope: resourceGroup(ownWorkspace ? group.name : (empty(workspaceStorageResourceGroup) ? workspaceGroup : workspaceStorageResourceGroup))
  params: {
    storageName: ownWorkspace ? workspace.outputs.storageName : workspaceStorageName
    controllerPrincipalId: identities.outputs.controllerPrincipalId
    trainingPrincipalId: identities.outputs.trainingPrincipalId
    servingPrincipalId: identities.outputs.servingPrincipalId
  }
}

module events 'modules/events.bicep' = {
  name: 'events'
  scope: group
  params: {
    location: location
    tags: tags
    token: token
    controllerPrincipalId: identities.outputs.controllerPrincipalId
  }
}

module functions 'modules/functions.bicep' = {
  name: 'functions'
  scope: group
  params: {
    location: location
    tags: tags
    token: token
    instanceMemoryMB: instanceMemoryMB
    maximumInstanceCount: maximumInstanceCount
    controllerId: identities.outputs.controllerId
    controllerClientId: identities.outputs.controllerClientId
    servingId: identities.outputs.servingId
    servingClientId: identities.outputs.servingClientId
    servingSubnetId: servingSubnetId
    storageName: storage.outputs.name
    packageContainer: storage.outputs.packageContainer
    insightsName: monitoring.outputs.insightsName
    logAnalyticsName: monitoring.outputs.logAnalyticsName
    topicEndpoint: events.outputs.topicEndpoint
    registryName: registry.outputs.name
    workspaceResourceGroup: ownWorkspace ? group.name : workspaceGroup
    workspaceName: ownWorkspace ? workspace.outputs.name : workspaceName
    webhookReference: vault.outputs.webhookReference
    hostReference: vault.outputs.hostReference
    logReference: vault.outputs.logReference
  }
}

output AZURE_RESOURCE_GROUP string = group.name
output HEADRACE_FUNCTION_APP string = functions.outputs.name
output HEADRACE_BASE_URL string = functions.outputs.address
output AZURE_KEY_VAULT_NAME string = vault.outputs.name
output HEADRACE_STORAGE_ACCOUNT string = storage.outputs.name
output HEADRACE_TOPIC string = events.outputs.topicName
output HEADRACE_WORKSPACE string = ownWorkspace ? workspace.outputs.name : workspaceName
output HEADRACE_WORKSPACE_RESOURCE_GROUP string = ownWorkspace ? group.name : workspaceGroup
output HEADRACE_WORKSPACE_LOCATION string = empty(workspaceLocation) ? location : workspaceLocation
output HEADRACE_TRAINING_IDENTITY string = identities.outputs.trainingId
