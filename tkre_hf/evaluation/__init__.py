"""What a checkpoint is worth: accuracy over episodes, and the reports that every stated figure comes from."""
