"""Images, models, manifests and targets that want to do harm, one kind a file."""
