<?php

declare(strict_types=1);

namespace Dossier;

/** What a verifier says of a message; the values are Dossier's own codes. */
enum Verdict: string
{
    case Valid = 'valid';
    case Invalid = 'signature_invalid';
    case Expired = 'signature_expired';
}
