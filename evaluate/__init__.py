"""From corpora to scores, fits and the report: what a model's compression says about the model."""
