"""The service that runs rounds."""
