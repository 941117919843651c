<?php

namespace App\Actions;

use App\Jobs\OrderScan;
use Illuminate\Support\Facades\DB;
use Illuminate\Support\Str;

/** Asks for a scan and returns at once: a job orders it, the callback brings what it finds. */
class RequestFolderScan
{
    /**
     * @param array<string, string> $sources folder id => s3://bucket/prefix/
     * @return string the correlation id, under which `scans` tells how it goes
     */
    public function __invoke(string $userId, array $sources): string
    {
        $correlationId = (string) Str::uuid();
        // The row before the order: a callback may be faster than the answer to the order.
        DB::table('scans')->insert([
            'correlation_id' => $correlationId,
            'user_id' => $userId,
            'sources' => json_encode($sources, JSON_THROW_ON_ERROR),
            'created_at' => now(),
            'updated_at' => now(),
        ]);
        OrderScan::dispatch($correlationId)->afterCommit();

        return $correlationId;
    }
}
