// Rights on the workspace's storage: the controller uploads code, jobs read and write, containers only read models.
param storageName string
param controllerPrincipalId string
param trainingPrincipalId string
param servingPrincipalId string

resource account 'Microsoft.Storage/storageAccounts@2023-05-01' existing = {
  name: storageName
}

// Storage Blob Data Contributor.
resource controller 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(account.id, controllerPrincipalId, 'ba92f5b4-2d11-453d-a403-e96b0029c9fe')
  scope: account
  properties: {
    principalId: controllerPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', 'ba92f5b4-2d11-453d-a403-e96b0029c9fe')
  }
}

resource training 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(account.id, trainingPrincipalId, 'ba92f5b4-2d11-453d-a403-e96b0029c9fe')
  scope: account
  properties: {
    principalId: trainingPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', 'ba92f5b4-2d11-453d-a403-e96b0029c9fe')
  }
}

// Storage Blob Data Reader.
resource serving 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(account.id, servingPrincipalId, '2a2b9908-6ea1-4ae2-8e65-a410df84e7d1')
  scope: account
  properties: {
    principalId: servingPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', '2a2b9908-6ea1-4ae2-8e65-a410df84e7d1')
  }
}

output name string = account.name
