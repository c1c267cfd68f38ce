"""The backends, each composed in one module: from settings to adapters to the application."""
