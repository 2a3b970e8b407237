"""Real servers and processes, killed in turn while payments flow through proxies that lose, cut, delay and refuse.

`stage` starts it all, `payers` are the load, `storm` strikes, `books` reads what the database holds then, `judging`
says which law is broken. `run` is one run, `report` tells.
"""
