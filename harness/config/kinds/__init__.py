"""The families of models and the samplers that there are, built in or of plug-ins; known without torch."""
