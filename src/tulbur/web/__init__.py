"""The HTTP face: the API, QPay's callbacks, the payer's page and what operators ask."""
