"""A language model as a compressor, literally: any file to fewer bytes and back, by the model's predictions."""
