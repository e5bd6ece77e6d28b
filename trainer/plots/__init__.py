"""Pictures for people: a file a subject, and `theme` for how all of them look."""
