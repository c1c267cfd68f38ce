// The controller's own topic. Only identities may publish.
param location string
param tags object
param token string
param controllerPrincipalId string

resource topic 'Microsoft.EventGrid/topics@2024-06-01-preview' = {
  name: 'evgt-headrace-${token}'
  location: location
  tags: tags
  identity: { type: 'SystemAssigned' }
  properties: {
    inputSchema: 'EventGridSchema'
    disableLocalAuth: true
    minimumTlsVersionAllowed: '1.2'
    publicNetworkAccess: 'Enabled'
  }
}

// EventGrid Data Sender.
resource controllerPublishes 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(topic.id, controllerPrincipalId, 'd5a91429-5739-47e2-a06b-3470a27159e7')
  scope: topic
  properties: {
    principalId: controllerPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', 'd5a91429-5739-47e2-a06b-3470a27159e7')
  }
}

output topicName string = topic.name
output topicEndpoint string = topic.properties.endpoint
