"""The command line of atf."""
