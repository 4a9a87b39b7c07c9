"""Retention: what nothing refers to goes, what is referred to or held stays, and a job proves both."""
