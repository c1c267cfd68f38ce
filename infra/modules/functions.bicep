// The function app itself, on Flex Consumption.
param location string
param tags object
param token string
param instanceMemoryMB int
param maximumInstanceCount int
param controllerId string
param controllerClientId string
param servingId string
param servingClientId string
param servingSubnetId string
param storageName string
param packageContainer string
param insightsName string
param logAnalyticsName string
param topicEndpoint string
param registryName string
param workspaceResourceGroup string
param workspaceName string
param webhookReference string
param hostReference string
param logReference string

resource account 'Microsoft.Storage/storageAccounts@2023-05-01' existing = {
  name: storageName
}

resource insights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: insightsName
}

resource logs 'Microsoft.OperationalInsights/workspaces@2023-09-01' existing = {
  name: logAnalyticsName
}

resource plan 'Microsoft.Web/serverfarms@2024-04-01' = {
  name: 'plan-${token}'
  location: location
  tags: tags
  kind: 'functionapp'
  sku: {
    name: 'FC1'
    tier: 'FlexConsumption'
  }
  properties: {
    reserved: true
  }
}

resource app 'Microsoft.Web/sites@2024-04-01' = {
  name: 'func-headrace-${token}'
  location: location
  tags: union(tags, { 'azd-service-name': 'controller' })
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${controllerId}': {}
    }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    keyVaultReferenceIdentity: controllerId
    siteConfig: {
      minTlsVersion: '1.2'
      ftpsState: 'Disabled'
    }
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: '${account.properties.primaryEndpoints.blob}${packageContainer}'
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: controllerId
          }
        }
      }
      runtime: {
        name: 'python'
        version: '3.13'
      }
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemoryMB
        maximumInstanceCount: maximumInstanceCount
      }
    }
  }
}

resource settings 'Microsoft.Web/sites/config@2024-04-01' = {
  parent: app
  name: 'appsettings'
  properties: {
    AzureWebJobsStorage__accountName: account.name
    AzureWebJobsStorage__credential: 'managedidentity'
    AzureWebJobsStorage__clientId: controllerClientId
    APPLICATIONINSIGHTS_CONNECTION_STRING: insights.properties.ConnectionString
    APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${controllerClientId};Authorization=AAD'
    HEADRACE_BACKEND: 'azure'
    HEADRACE_BASE_URL: 'https://${app.properties.defaultHostName}'
    HEADRACE_CLIENT_ID: controllerClientId
    HEADRACE_STORAGE__accountName: account.name
    HEADRACE_STORAGE__credential: 'managedidentity'
    HEADRACE_STORAGE__clientId: controllerClientId
    HEADRACE_SUBSCRIPTION: subscription().subscriptionId
    HEADRACE_RESOURCE_GROUP: resourceGroup().name
    HEADRACE_LOCATION: location
    HEADRACE_WORKSPACE: workspaceName
    HEADRACE_WORKSPACE_RESOURCE_GROUP: workspaceResourceGroup
    HEADRACE_TOPIC_ENDPOINT: topicEndpoint
    HEADRACE_REGISTRY: registryName
    HEADRACE_SERVING_IDENTITY: servingId
    HEADRACE_SERVING_CLIENT_ID: servingClientId
    HEADRACE_SERVING_SUBNET: servingSubnetId
    HEADRACE_LOG_ANALYTICS_ID: logs.properties.customerId
    HEADRACE_LOG_ANALYTICS_KEY: logReference
    HEADRACE_WEBHOOK_SECRETS: webhookReference
    HEADRACE_HOSTS: hostReference
  }
}

output name string = app.name
output address string = 'https://${app.properties.defaultHostName}'
