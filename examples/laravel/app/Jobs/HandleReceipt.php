<?php

namespace App\Jobs;

use Illuminate\Bus\Queueable;
use Illuminate\Contracts\Queue\ShouldQueue;
use Illuminate\Database\Query\Builder;
use Illuminate\Foundation\Bus\Dispatchable;
use Illuminate\Queue\InteractsWithQueue;
use Illuminate\Support\Facades\DB;

/** Works from one kept message. Any order, any number of times: everything is decided by generation, in one transaction. */
class HandleReceipt implements ShouldQueue
{
    use Dispatchable, InteractsWithQueue, Queueable;

    public $tries = 10;

    public $timeout = 120;

    public function __construct(private string $webhookId)
    {
    }

    /** @return list<int> seconds before each further try */
    public function backoff(): array
    {
        return [1, 5, 30, 120, 600];
    }

    public function handle(): void
    {
        DB::transaction(function () {
            $receipt = $this->receipt()->whereNull('handled_at')->first();
            if ($receipt === null) {
                return; // handled before
            }
            $message = json_decode($receipt->body, true, flags: JSON_THROW_ON_ERROR);
            // The lock on the scan's row makes jobs of one scan wait for each other.
            $scan = DB::table('scans')->where('correlation_id', $message['correlation_id'])->lockForUpdate()->first();
            if ($message['type'] === 'scan.batch') {
                $this->takeBatch($scan->id, $message);
            } elseif ($message['type'] === 'scan.completed') {
                DB::table('scans')->where('id', $scan->id)->update([
                    'outcome' => $message['status'],
                    'total_batches' => $message['total_batches'],
                    'failed_folders' => json_encode($message['failed_folders']),
                ]);
            }
            $this->finalise($scan->id);
            $this->receipt()->update(['handled_at' => now()]);
        }, 3);
    }

    /** @param array<string, mixed> $message */
    private function takeBatch(int $generation, array $message): void
    {
        foreach ($message['documents'] as $document) {
            $key = ['folder_id' => $message['folder_id'], 'path_hash' => hash('sha256', $document['path'])];
            $seen = [
                'filename' => $document['filename'],
                'content_type' => $document['content_type'],
                'size' => $document['size'],
                'etag' => $document['etag'],
                'generation' => $generation,
                'missing_since' => null,
                'updated_at' => now(),
            ];
            // Only what this scan knows better: a late batch of an older scan changes nothing.
            if (DB::table('documents')->where($key)->where('generation', '<', $generation)->update($seen) === 0) {
                DB::table('documents')
                    ->insertOrIgnore($key + $seen + ['path' => $document['path'], 'created_at' => now()]);
            }
        }
        DB::table('scan_batches')->insertOrIgnore([
            'scan_id' => $generation,
            'folder_id' => $message['folder_id'],
            'batch' => $message['batch'],
        ]);
    }

    /** Once the marker and every batch are here. A listing that is not whole never makes anything missing. */
    private function finalise(int $id): void
    {
        $scan = DB::table('scans')->find($id);
        $batches = DB::table('scan_batches')->where('scan_id', $id)->count();
        if ($scan->outcome === null || $batches < $scan->total_batches || in_array($scan->status, ['COMPLETED', 'FAILED'], true)) {
            return;
        }
        if ($scan->outcome === 'COMPLETED') {
            $folders = array_map('strval', array_keys(json_decode($scan->sources, true)));
            DB::table('documents')
                ->whereIn('folder_id', array_diff($folders, json_decode($scan->failed_folders, true)))
                ->where('generation', '<', $id)
                ->whereNull('missing_since')
                ->update(['missing_since' => now(), 'updated_at' => now()]);
        }
        DB::table('scans')->where('id', $id)->update(['status' => $scan->outcome, 'updated_at' => now()]);
    }

    private function receipt(): Builder
    {
        return DB::table('webhook_receipts')->where('webhook_id', $this->webhookId);
    }
}
