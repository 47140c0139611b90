"""The model: many replicates of a language model side by side, and the layers they are made of."""
