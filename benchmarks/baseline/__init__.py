"""What Dossier is measured against. Its tokens are signed with this secret."""

SECRET, ALGORITHM = "the secret of every tutorial", "HS256"
