<?php

declare(strict_types=1);

namespace Dossier;

use CURLFile;
use SensitiveParameter;

/** Dossier over HTTP. Every call answers with the decoded JSON or raises ClientError. */
final class Client
{
    /**
     * @param string $url such as https://dossier.example.com
     * @param string $privateToken one of Dossier's PRIVATE_TOKENS; only for scans
     */
    public function __construct(
        private readonly string $url,
        #[SensitiveParameter] private readonly string $privateToken = '',
        private readonly int $timeoutSeconds = 10,
    ) {
    }

    /**
     * Answers at once; the files come to the callback. May be repeated with the same key.
     *
     * @param array<string, string> $sources folder id => s3://bucket/prefix/
     * @param string $callback a name from Dossier's SCAN_CALLBACKS
     * @return array<string, mixed> scan_id, status, status_url
     */
    public function orderScan(string $userId, array $sources, string $callback, string $correlationId): array
    {
        $folders = [];
        foreach ($sources as $folder => $source) {
            $folders[] = ['folder_id' => (string) $folder, 'source' => $source];
        }
        return $this->send(
            'POST',
            '/scans',
            ['user_id' => $userId, 'folders' => $folders, 'callback' => $callback, 'correlation_id' => $correlationId],
            ["Private-Token: $this->privateToken", "Idempotency-Key: $correlationId"],
        );
    }

    /** @return array<string, mixed> status, folders_total, folders_done, documents_found, … */
    public function scan(string $scanId): array
    {
        return $this->send('GET', '/scans/' . rawurlencode($scanId), null, ["Private-Token: $this->privateToken"]);
    }

    /** An access token, good for some minutes. */
    public function signIn(string $email, #[SensitiveParameter] string $password): string
    {
        return $this->send('POST', '/auth/login', ['email' => $email, 'password' => $password])['access_token'];
    }

    /** @return array<string, mixed> the new document */
    public function upload(#[SensitiveParameter] string $accessToken, string $path): array
    {
        $file = new CURLFile($path, 'application/octet-stream', basename($path));
        return $this->send('POST', '/documents/upload', ['file' => $file], ["Authorization: Bearer $accessToken"], json: false);
    }

    /** @return array<string, mixed> the status: reading it goes on in the background */
    public function process(#[SensitiveParameter] string $accessToken, string $documentId): array
    {
        return $this->send('POST', $this->document($documentId) . '/process', null, ["Authorization: Bearer $accessToken"]);
    }

    /** @return array<string, mixed> waits up to five seconds for a change */
    public function status(#[SensitiveParameter] string $accessToken, string $documentId): array
    {
        return $this->send('GET', $this->document($documentId) . '/status?wait=5', null, ["Authorization: Bearer $accessToken"]);
    }

    /** @return array<string, mixed> */
    public function result(#[SensitiveParameter] string $accessToken, string $documentId): array
    {
        return $this->send('GET', $this->document($documentId) . '/result', null, ["Authorization: Bearer $accessToken"]);
    }

    private function document(string $documentId): string
    {
        return '/documents/' . rawurlencode($documentId);
    }

    /**
     * @param ?array<string, mixed> $body
     * @param list<string> $headers
     * @return array<string, mixed>
     */
    private function send(
        string $method,
        string $path,
        ?array $body,
        #[SensitiveParameter] array $headers = [],
        bool $json = true,
    ): array {
        $retryAfter = null;
        $curl = curl_init(rtrim($this->url, '/') . $path);
        curl_setopt_array($curl, [
            CURLOPT_CUSTOMREQUEST => $method,
            CURLOPT_RETURNTRANSFER => true,
            CURLOPT_FOLLOWLOCATION => false, // credentials go where they were meant to go
            CURLOPT_PROTOCOLS => CURLPROTO_HTTP | CURLPROTO_HTTPS,
            CURLOPT_CONNECTTIMEOUT => 3,
            CURLOPT_TIMEOUT => $this->timeoutSeconds,
            CURLOPT_HEADERFUNCTION => static function ($_, string $line) use (&$retryAfter): int {
                if (preg_match('/\Aretry-after:\s*(\d+)/i', $line, $found)) {
                    $retryAfter = (int) $found[1];
                }
                return strlen($line);
            },
        ]);
        if ($body !== null) {
            $headers[] = $json ? 'Content-Type: application/json' : 'Expect:';
            curl_setopt($curl, CURLOPT_POSTFIELDS, $json ? json_encode($body, JSON_THROW_ON_ERROR) : $body);
        }
        curl_setopt($curl, CURLOPT_HTTPHEADER, $headers);
        $text = curl_exec($curl);
        $status = curl_getinfo($curl, CURLINFO_RESPONSE_CODE);
        $answer = is_string($text) ? json_decode($text, true) : null;
        if ($text === false) {
            throw new ClientError(0, 'unreachable');
        }
        if ($status < 200 || $status > 299 || !is_array($answer)) {
            $answer = is_array($answer) ? $answer : [];
            throw new ClientError($status, $answer['code'] ?? 'unexpected_answer', $answer['request_id'] ?? null, $retryAfter);
        }
        return $answer;
    }
}
