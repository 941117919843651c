<?php

declare(strict_types=1);

namespace Dossier;

use RuntimeException;

/** Dossier refused, or could not be reached (status 0). */
final class ClientError extends RuntimeException
{
    /**
     * @param string $problem Dossier's code, such as `source_not_allowed`
     * @param ?int $retryAfter seconds
     */
    public function __construct(
        public readonly int $status,
        public readonly string $problem,
        public readonly ?string $requestId = null,
        public readonly ?int $retryAfter = null,
    ) {
        parent::__construct("Dossier: $status $problem" . ($requestId === null ? '' : " (request $requestId)"));
    }

    /** Whether the same request may succeed later: with the same Idempotency-Key it never takes effect twice. */
    public function mayRetry(): bool
    {
        return $this->status === 0 || $this->status === 429 || $this->status >= 500
            || $this->problem === 'idempotency_in_progress';
    }
}
