"""A simulation of many servers and clients: which server takes a call, and how long the call takes then."""
