<?php

namespace App\Providers;

use App\Jobs\HandleReceipt;
use App\Jobs\OrderScan;
use Dossier\WebhookVerifier;
use Illuminate\Console\Scheduling\Schedule;
use Illuminate\Support\Facades\DB;
use Illuminate\Support\ServiceProvider;

class DossierServiceProvider extends ServiceProvider
{
    public function register(): void
    {
        $this->app->singleton(WebhookVerifier::class, fn () => new WebhookVerifier(config('dossier.secrets')));
    }

    public function boot(): void
    {
        $this->loadRoutesFrom(base_path('routes/dossier.php'));
        $this->callAfterResolving(Schedule::class, function (Schedule $schedule): void {
            $schedule->call(self::resume(...))->everyFiveMinutes();
        });
    }

    /** Jobs for everything that is open: the queue may forget, the tables do not. Repeats are harmless. */
    public static function resume(): void
    {
        $before = now()->subMinutes(5);
        DB::table('scans')->where('status', 'PENDING')->where('created_at', '<', $before)
            ->pluck('correlation_id')->each(fn (string $id) => OrderScan::dispatch($id));
        DB::table('webhook_receipts')->whereNull('handled_at')->where('received_at', '<', $before)
            ->pluck('webhook_id')->each(fn (string $id) => HandleReceipt::dispatch($id));
    }
}
