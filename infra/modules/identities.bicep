// Three identities, so that each holds only what its part needs: the controller, training jobs, scoring containers.
param location string
param tags object
param token string

resource controller 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: 'id-controller-${token}'
  location: location
  tags: tags
}

resource training 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: 'id-training-${token}'
  location: location
  tags: tags
}

resource serving 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: 'id-serving-${token}'
  location: location
  tags: tags
}

// Managed Identity Operator: the controller hands the serving identity to the container groups that it makes.
resource controllerAssignsServing 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(serving.id, controller.id, 'f1a07417-d97a-45cb-824c-7a7467783830')
  scope: serving
  properties: {
    principalId: controller.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', 'f1a07417-d97a-45cb-824c-7a7467783830')
  }
}

// Azure Container Instances Contributor Role, on this resource group only.
resource controllerDeploys 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(resourceGroup().id, controller.id, '5d977122-f97e-4b4d-a52f-6b43003ddb4d')
  properties: {
    principalId: controller.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', '5d977122-f97e-4b4d-a52f-6b43003ddb4d')
  }
}

output controllerId string = controller.id
output controllerClientId string = controller.properties.clientId
output controllerPrincipalId string = controller.properties.principalId
output trainingId string = training.id
output trainingPrincipalId string = training.properties.principalId
output servingId string = serving.id
output servingClientId string = serving.properties.clientId
output servingPrincipalId string = serving.properties.principalId
