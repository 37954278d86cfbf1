"""The program `gan`, for people: one module a command. Nothing else imports this package."""
