<?php

namespace App\Jobs;

use Illuminate\Bus\Queueable;
use Illuminate\Contracts\Queue\ShouldQueue;
use Illuminate\Foundation\Bus\Dispatchable;
use Illuminate\Queue\InteractsWithQueue;
use Illuminate\Support\Facades\DB;
use Illuminate\Support\Facades\Http;
use Throwable;

/** Orders a scan. May run any number of times: the correlation id is the Idempotency-Key. */
class OrderScan implements ShouldQueue
{
    use Dispatchable, InteractsWithQueue, Queueable;

    public $tries = 8;

    public $timeout = 30;

    public function __construct(private string $correlationId)
    {
    }

    /** @return list<int> seconds before each further try */
    public function backoff(): array
    {
        return [1, 5, 30, 120, 600];
    }

    public function handle(): void
    {
        $scan = $this->pending()->first();
        if ($scan === null) {
            return; // ordered before
        }
        $folders = collect(json_decode($scan->sources, true, flags: JSON_THROW_ON_ERROR))
            ->map(fn (string $source, string $folder) => ['folder_id' => $folder, 'source' => $source]);
        $answer = Http::withHeaders([
            'Private-Token' => head(config('dossier.tokens')),
            'Idempotency-Key' => $this->correlationId,
        ])->acceptJson()->timeout(10)->withoutRedirecting()->post(config('dossier.url') . '/scans', [
            'user_id' => $scan->user_id,
            'folders' => $folders->values()->all(),
            'callback' => config('dossier.callback'),
            'correlation_id' => $this->correlationId,
        ]);
        $refused = $answer->clientError() && $answer->status() !== 429
            && $answer->json('code') !== 'idempotency_in_progress';
        if ($refused) { // it would be refused for ever
            $this->pending()->update(['status' => 'FAILED', 'error' => $answer->json('code'), 'updated_at' => now()]);

            return;
        }
        $answer->throw();
        $this->pending()->update(['status' => 'RUNNING', 'scan_id' => $answer['scan_id'], 'updated_at' => now()]);
    }

    public function failed(?Throwable $error): void
    {
        $this->pending()->update(['status' => 'FAILED', 'error' => 'dossier_unreachable', 'updated_at' => now()]);
    }

    private function pending()
    {
        return DB::table('scans')->where('correlation_id', $this->correlationId)->where('status', 'PENDING');
    }
}
