"""The known pitfalls of a model and its preprocessing, looked for on the user's images."""
