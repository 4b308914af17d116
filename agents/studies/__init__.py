"""Tables over many trainings."""
