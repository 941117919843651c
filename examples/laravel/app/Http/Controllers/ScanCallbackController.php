<?php

namespace App\Http\Controllers;

use App\Jobs\HandleReceipt;
use Illuminate\Http\JsonResponse;
use Illuminate\Http\Request;
use Illuminate\Support\Facades\DB;

/** Keeps the message before it says 2xx, so that what was acknowledged cannot be lost; a job does the work. */
class ScanCallbackController
{
    public function __invoke(Request $request): JsonResponse
    {
        $message = json_decode($request->getContent(), true);
        if (! is_array($message) || ! $this->isWhole($message)) {
            return new JsonResponse(['code' => 'malformed_request'], 400);
        }
        // Signed is not believed: it must be about a scan, and a folder of it, that we asked for.
        $sources = DB::table('scans')->where('correlation_id', $message['correlation_id'])->value('sources');
        $folder = $message['folder_id'] ?? null; // the completion marker has none
        if ($sources === null || ($folder !== null && ! isset(json_decode($sources, true)[$folder]))) {
            return new JsonResponse(['code' => 'not_found'], 404);
        }
        $id = $request->header('webhook-id');
        $isNew = DB::table('webhook_receipts')->insertOrIgnore([
            'webhook_id' => $id,
            'body' => $request->getContent(),
            'received_at' => now(),
        ]) === 1;
        // Not only when it is new: whoever kept it may have died before this line.
        if (DB::table('webhook_receipts')->where('webhook_id', $id)->whereNull('handled_at')->exists()) {
            HandleReceipt::dispatch($id);
        }

        return new JsonResponse(['received' => true, 'duplicate' => ! $isNew]);
    }

    /** @param array<string, mixed> $message */
    private function isWhole(array $message): bool
    {
        $has = fn (string $field, string $type) => get_debug_type($message[$field] ?? null) === $type;

        return $has('correlation_id', 'string') && match ($message['type'] ?? null) {
            'scan.batch' => $has('folder_id', 'string') && $has('batch', 'int') && $has('documents', 'array'),
            'scan.completed' => $has('status', 'string') && $has('total_batches', 'int') && $has('failed_folders', 'array'),
            default => false,
        };
    }
}
