"""Commands as declared: options and help. What they do is imported only when one runs."""
