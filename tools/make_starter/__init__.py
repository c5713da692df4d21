"""How the starter weights are made: ``python -m tools.make_starter IMAGES --teachers FOLDER -o WORK``."""
