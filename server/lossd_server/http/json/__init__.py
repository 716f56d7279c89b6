"""JSON of losses: requests as the messages of the contract, and their answers as JSON. Pure."""
