"""From a phone that answered to a person with a name."""
