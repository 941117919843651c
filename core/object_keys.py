"""Where our own objects lie in storage: under one root, so that nobody's source can ever name them."""

OWN_ROOT = "_dossier/"
