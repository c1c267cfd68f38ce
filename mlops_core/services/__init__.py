"""The parts of the controller, a module each: taking in, performing effects, looking after."""
