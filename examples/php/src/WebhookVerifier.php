<?php

declare(strict_types=1);

namespace Dossier;

use InvalidArgumentException;
use SensitiveParameter;

/** Checks what Dossier sends, callbacks and webhooks alike: Standard Webhooks, `v1`. */
final class WebhookVerifier
{
    private const TOLERANCE_SECONDS = 300;
    private const MAX_SIGNATURES = 5;
    private const MAX_HEADER = 2048;

    /** @var list<string> */
    private readonly array $keys;

    /** @param list<string> $secrets `whsec_…`: one, or two while they are being changed */
    public function __construct(#[SensitiveParameter] array $secrets)
    {
        if ($secrets === []) {
            throw new InvalidArgumentException('At least one signing secret is needed.');
        }
        $this->keys = array_map(self::key(...), $secrets);
    }

    /** @param string $rawBody the bytes as they arrived, before any JSON */
    public function check(string $rawBody, ?string $id, ?string $timestamp, ?string $signatures, ?int $now = null): Verdict
    {
        // An id has no dot: else `a.1` with body `b` and `a` with body `1.b` would sign alike.
        if (!preg_match('/\A[A-Za-z0-9_-]{1,64}\z/', $id ?? '') || !preg_match('/\A[0-9]{10}\z/', $timestamp ?? '')) {
            return Verdict::Invalid;
        }
        if ($signatures === null || strlen($signatures) > self::MAX_HEADER) {
            return Verdict::Invalid;
        }
        $good = false;
        foreach ($this->keys as $key) {
            $wanted = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$timestamp.$rawBody", $key, true));
            foreach (array_slice(explode(' ', $signatures), 0, self::MAX_SIGNATURES) as $given) {
                $good = hash_equals($wanted, $given) || $good; // all of them, no early exit
            }
        }
        if (!$good) {
            return Verdict::Invalid;
        }
        return abs(($now ?? time()) - (int) $timestamp) > self::TOLERANCE_SECONDS ? Verdict::Expired : Verdict::Valid;
    }

    private static function key(#[SensitiveParameter] string $secret): string
    {
        $key = str_starts_with($secret, 'whsec_') ? base64_decode(substr($secret, strlen('whsec_')), true) : false;
        if ($key === false || strlen($key) < 24 || strlen($key) > 64) {
            throw new InvalidArgumentException('A signing secret is whsec_ and base64 of 24 to 64 bytes.');
        }
        return $key;
    }
}
