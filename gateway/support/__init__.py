"""What the bank does about people: looking, disabling, ending sessions."""
