"""Orders that are shipped from whatever site has what they need."""
