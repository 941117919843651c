"""What every answer tells a browser, refusals and errors too."""

from collections.abc import Mapping

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cross-Origin-Resource-Policy": "same-site",
    "Cache-Control": "no-store",
}
STRICT_TRANSPORT_SECURITY = {"Strict-Transport-Security": "max-age=63072000; includeSubDomains"}


def security_headers(*, hsts: bool) -> Mapping[str, str]:
    """With `hsts` browsers never come without TLS again: only where TLS is in front for good."""
    return SECURITY_HEADERS | (STRICT_TRANSPORT_SECURITY if hsts else {})
