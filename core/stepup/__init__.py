"""Step-up: before an action that hurts when somebody else does it, its caller proves to be there and to mean it.

`rules` says what is shown, signed and compared; `store` keeps challenges and evidence; `guard` is what the dispatcher
asks inside the action's own transaction; `evidence` verifies later what was signed.
"""
