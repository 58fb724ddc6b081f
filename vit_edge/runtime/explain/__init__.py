"""What in an image an answer rests on: maps of heat over what the model sees."""
