"""A client for Dossier: `DossierClient` in programs, `dossier` on the command line."""

from dossier_client.client import DossierClient
from dossier_client.http import DossierError, NotSignedIn, Tokens
from dossier_client.store import Store

__all__ = ["DossierClient", "DossierError", "NotSignedIn", "Store", "Tokens"]
