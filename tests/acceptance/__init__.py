"""The demo, measured: what a person who ran it can expect."""
