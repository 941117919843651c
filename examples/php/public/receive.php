<?php

/**
 * Where Dossier's messages arrive, without any framework. Try it with
 *
 *     DOSSIER_TOKEN=… DOSSIER_SECRET=whsec_… RECEIPTS=receipts.sqlite php -S 127.0.0.1:8081 public/receive.php
 *
 * POST /callbacks/dossier takes scans (token and signature), POST /webhooks/dossier takes webhooks, signed with the
 * secret that was shown when the webhook was registered (DOSSIER_WEBHOOK_SECRET). Work goes on from the kept receipts.
 */

declare(strict_types=1);

use Dossier\ReceiptStore;
use Dossier\Verdict;
use Dossier\WebhookVerifier;

require __DIR__ . '/../autoload.php';

function answer(int $status, array $body): never
{
    http_response_code($status);
    header('Content-Type: application/json');
    exit(json_encode($body));
}

/** @return list<string> */
function secrets(string ...$names): array
{
    return array_values(array_filter(array_map(getenv(...), $names)));
}

$place = $_SERVER['REQUEST_METHOD'] . ' ' . parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
$secrets = match ($place) {
    'POST /callbacks/dossier' => secrets('DOSSIER_SECRET', 'DOSSIER_SECRET_PREVIOUS'),
    'POST /webhooks/dossier' => secrets('DOSSIER_WEBHOOK_SECRET', 'DOSSIER_WEBHOOK_SECRET_PREVIOUS'),
    default => answer(404, ['code' => 'not_found']),
};
if ($place === 'POST /callbacks/dossier') {
    $token = getenv('DOSSIER_TOKEN') ?: answer(500, ['code' => 'not_configured']);
    if (!hash_equals($token, $_SERVER['HTTP_PRIVATE_TOKEN'] ?? '')) {
        answer(401, ['code' => 'api_key_invalid']);
    }
}

$body = file_get_contents('php://input');
$id = $_SERVER['HTTP_WEBHOOK_ID'] ?? null;
$verdict = (new WebhookVerifier($secrets))
    ->check($body, $id, $_SERVER['HTTP_WEBHOOK_TIMESTAMP'] ?? null, $_SERVER['HTTP_WEBHOOK_SIGNATURE'] ?? null);
if ($verdict !== Verdict::Valid) {
    answer(401, ['code' => $verdict->value]);
}
if (!is_array(json_decode($body, true))) {
    answer(400, ['code' => 'malformed_request']);
}
$isNew = ReceiptStore::inFile(getenv('RECEIPTS') ?: 'receipts.sqlite')->keep($id, $body);
answer(200, ['received' => true, 'duplicate' => !$isNew]);
