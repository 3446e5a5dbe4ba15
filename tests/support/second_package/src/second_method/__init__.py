"""A method of somebody else: a term with a constant of its own, a data set, and a metric."""
