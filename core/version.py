"""What this is, and in which version: for its users, and for whoever collects errors and traces."""

NAME, VERSION = "Dossier", "0.1.0"
