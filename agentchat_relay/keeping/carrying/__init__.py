"""All rows of a relay, from one state of one database into another one, whichever engines the two are of; verified."""
