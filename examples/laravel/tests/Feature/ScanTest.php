<?php

namespace Tests\Feature;

use App\Actions\RequestFolderScan;
use App\Jobs\HandleReceipt;
use App\Jobs\OrderScan;
use App\Providers\DossierServiceProvider;
use Illuminate\Foundation\Testing\RefreshDatabase;
use Illuminate\Support\Facades\Bus;
use Illuminate\Support\Facades\DB;
use Illuminate\Support\Facades\Http;
use Illuminate\Testing\TestResponse;
use Tests\TestCase;

class ScanTest extends TestCase
{
    use RefreshDatabase;

    private const TOKEN = 'token-of-the-tests-0123456789';

    private const FOLDERS = ['7' => 's3://imports/a/', 'fld_b' => 's3://imports/b/'];

    private int $sent = 0;

    protected function setUp(): void
    {
        parent::setUp();
        config(['dossier' => [
            'url' => 'http://dossier.test',
            'tokens' => [self::TOKEN, 'the-token-before-0123456789'],
            'secrets' => [self::secret('n'), self::secret('o')],
            'callback' => 'laravel',
        ]]);
        Http::fake(['dossier.test/*' => Http::response(['scan_id' => 'scn_1', 'status' => 'PENDING'], 202)]);
    }

    // Ordering

    public function test_a_request_returns_before_dossier_is_asked(): void
    {
        Bus::fake();
        $id = (new RequestFolderScan)('usr_1', self::FOLDERS);
        Http::assertNothingSent();
        Bus::assertDispatched(OrderScan::class);
        $this->assertScan($id, 'PENDING');
    }

    public function test_the_job_orders_the_scan_once(): void
    {
        $id = $this->ordered();
        (new OrderScan($id))->handle();
        Http::assertSentCount(1);
        Http::assertSent(fn ($request) => $request->url() === 'http://dossier.test/scans'
            && $request->header('Private-Token') === [self::TOKEN]
            && $request->header('Idempotency-Key') === [$id]
            && $request->data() === [
                'user_id' => 'usr_1',
                'folders' => [
                    ['folder_id' => '7', 'source' => 's3://imports/a/'],
                    ['folder_id' => 'fld_b', 'source' => 's3://imports/b/'],
                ],
                'callback' => 'laravel',
                'correlation_id' => $id,
            ]);
        $this->assertScan($id, 'RUNNING');
    }

    public function test_a_refused_order_ends_with_its_code(): void
    {
        $this->dossierAnswers(['code' => 'source_not_allowed'], 422);
        $this->assertScan($this->ordered(), 'FAILED', 'source_not_allowed');
    }

    public function test_an_order_without_an_answer_is_tried_again_with_the_same_key(): void
    {
        $this->dossierAnswers(['code' => 'overloaded'], 503);
        Bus::fake();
        $id = (new RequestFolderScan)('usr_1', self::FOLDERS);
        $job = new OrderScan($id);
        try {
            $job->handle();
            $this->fail('not tried again');
        } catch (\Illuminate\Http\Client\RequestException) {
            $this->assertScan($id, 'PENDING');
        }
        $job->failed(null);
        $this->assertScan($id, 'FAILED', 'dossier_unreachable');
    }

    // Who may come

    public function test_without_a_known_token_nobody_is_let_in(): void
    {
        $id = $this->ordered();
        foreach ([null, '', 'wrong', self::TOKEN . 'x'] as $token) {
            $this->deliver($this->batch($id), token: $token)->assertStatus(401)->assertExactJson(['code' => 'api_key_invalid']);
        }
        $this->deliver($this->batch($id), token: 'the-token-before-0123456789')->assertOk();
    }

    public function test_a_token_alone_is_not_enough(): void
    {
        $id = $this->ordered();
        $invalid = ['code' => 'signature_invalid'];
        $this->deliver($this->batch($id), secret: null)->assertStatus(401)->assertExactJson($invalid);
        $this->deliver($this->batch($id), secret: self::secret('f'))->assertStatus(401)->assertExactJson($invalid);
        $this->deliver($this->batch($id), received: $this->batch($id, size: 2))->assertStatus(401)->assertExactJson($invalid);
        $this->deliver($this->batch($id), at: time() - 301)->assertStatus(401)->assertExactJson(['code' => 'signature_expired']);
        $this->assertSame(0, DB::table('webhook_receipts')->count());
    }

    public function test_both_secrets_are_good_while_they_are_being_changed(): void
    {
        $id = $this->ordered();
        $this->deliver($this->batch($id), secret: self::secret('o'))->assertOk();
        $this->deliver($this->batch($id, batch: 1), secret: self::secret('n'))->assertOk();
    }

    public function test_signed_is_not_believed(): void
    {
        $id = $this->ordered();
        $this->deliver($this->batch('6a5de0a1-0000-4000-8000-000000000000'))->assertNotFound();
        $this->deliver($this->marker('6a5de0a1-0000-4000-8000-000000000000'))->assertNotFound();
        $this->deliver($this->batch($id, folder: 'fld_of_somebody_else'))->assertNotFound();
        foreach (["\xff\xfe", '[]', '{', '"text"', '{"type":"scan.batch","correlation_id":["x"]}', '{"type":"other"}'] as $body) {
            $this->deliver($body)->assertStatus(400)->assertExactJson(['code' => 'malformed_request']);
        }
        $this->assertSame(0, DB::table('documents')->count());
    }

    // Receipts

    public function test_a_message_is_kept_before_it_is_acknowledged_and_worked_on_later(): void
    {
        $id = $this->ordered();
        Bus::fake();
        $this->deliver($this->batch($id), webhookId: 'msg_1')->assertOk()->assertExactJson(['received' => true, 'duplicate' => false]);
        $this->assertSame($this->batch($id), DB::table('webhook_receipts')->where('webhook_id', 'msg_1')->value('body'));
        $this->assertSame(0, DB::table('documents')->count());
        Bus::assertDispatched(HandleReceipt::class);
    }

    public function test_a_repeat_is_acknowledged_and_has_no_effect(): void
    {
        $id = $this->ordered();
        $this->deliver($this->batch($id), webhookId: 'msg_1')->assertOk();
        Bus::fake();
        $this->deliver($this->batch($id), webhookId: 'msg_1')->assertOk()->assertExactJson(['received' => true, 'duplicate' => true]);
        Bus::assertNotDispatched(HandleReceipt::class);
        $this->assertSame(1, DB::table('documents')->count());
    }

    public function test_what_the_queue_forgot_is_resumed(): void
    {
        $id = $this->ordered();
        Bus::fake();
        $this->deliver($this->batch($id), webhookId: 'msg_1')->assertOk();
        $waiting = (new RequestFolderScan)('usr_1', self::FOLDERS);
        $this->travel(6)->minutes();
        Bus::fake();
        DossierServiceProvider::resume();
        Bus::assertDispatchedTimes(HandleReceipt::class, 1);
        Bus::assertDispatchedTimes(OrderScan::class, 1);
        $this->assertScan($waiting, 'PENDING');
    }

    // What becomes of them

    public function test_any_order_and_repeats_give_every_document_once(): void
    {
        $id = $this->ordered();
        $this->deliver($this->marker($id, batches: 3))->assertOk();
        foreach ([2, 0, 2, 1] as $batch) {
            $this->assertScan($id, 'RUNNING');
            $this->deliver($this->batch($id, batch: $batch, paths: ["$batch/a.pdf", "$batch/b.pdf"]))->assertOk();
        }
        $this->assertScan($id, 'COMPLETED');
        $this->assertSame(6, DB::table('documents')->whereNull('missing_since')->count());
    }

    public function test_what_the_next_scan_does_not_see_is_missing_until_it_is_seen_again(): void
    {
        $this->scanned(['a.pdf', 'b.pdf', 'c.pdf']);
        $this->scanned(['a.pdf', 'd.pdf']);
        $this->assertSame(['b.pdf', 'c.pdf'], $this->missing());
        $this->scanned(['a.pdf', 'b.pdf']);
        $this->assertSame(['c.pdf', 'd.pdf'], $this->missing());
    }

    public function test_a_failed_scan_and_a_failed_folder_make_nothing_missing(): void
    {
        $this->scanned(['a.pdf', 'b.pdf']);
        $failed = $this->ordered();
        $this->deliver($this->batch($failed, paths: ['a.pdf']))->assertOk();
        $this->deliver($this->marker($failed, status: 'FAILED'))->assertOk();
        $this->assertScan($failed, 'FAILED');
        $this->assertSame([], $this->missing());
        $partial = $this->ordered();
        $this->deliver($this->marker($partial, batches: 0, failed: ['7']))->assertOk();
        $this->assertScan($partial, 'COMPLETED');
        $this->assertSame([], $this->missing());
    }

    public function test_a_late_batch_of_an_older_scan_changes_nothing(): void
    {
        $old = $this->ordered();
        $this->deliver($this->marker($old, batches: 1))->assertOk();
        $this->scanned(['a.pdf'], size: 2);
        $before = DB::table('documents')->get()->toArray();
        $this->deliver($this->batch($old, paths: ['a.pdf'], size: 1))->assertOk();
        $this->assertEquals($before, DB::table('documents')->get()->toArray());
        $this->assertScan($old, 'COMPLETED');
        $this->assertSame([], $this->missing());
    }

    public function test_a_message_whose_job_fails_is_worked_on_again(): void
    {
        $id = $this->ordered();
        Bus::fake();
        $this->deliver($this->batch($id, paths: ['a.pdf', 'b.pdf']), webhookId: 'msg_1')->assertOk();
        DB::statement("CREATE TRIGGER broken BEFORE INSERT ON scan_batches BEGIN SELECT RAISE(ABORT, 'broken'); END");
        try {
            (new HandleReceipt('msg_1'))->handle();
            $this->fail('worked');
        } catch (\Illuminate\Database\QueryException) {
            $this->assertSame(0, DB::table('documents')->count());
        }
        DB::statement('DROP TRIGGER broken');
        (new HandleReceipt('msg_1'))->handle();
        (new HandleReceipt('msg_1'))->handle();
        $this->assertSame(2, DB::table('documents')->count());
    }

    // Helpers

    private function ordered(): string
    {
        return (new RequestFolderScan)('usr_1', self::FOLDERS);
    }

    /** @param list<string> $paths */
    private function scanned(array $paths, int $size = 1): void
    {
        $id = $this->ordered();
        $this->deliver($this->batch($id, paths: $paths, size: $size))->assertOk();
        $this->deliver($this->marker($id))->assertOk();
        $this->assertScan($id, 'COMPLETED');
    }

    /** @param list<string> $paths */
    private function batch(string $scan, string $folder = '7', int $batch = 0, array $paths = ['a.pdf'], int $size = 1): string
    {
        return json_encode([
            'type' => 'scan.batch', 'scan_id' => 'scn_1', 'correlation_id' => $scan, 'folder_id' => $folder, 'batch' => $batch,
            'documents' => array_map(fn (string $path) => [
                'path' => $path, 'filename' => basename($path), 'size' => $size, 'etag' => "etag-$size",
                'content_type' => 'application/pdf', 'last_modified' => '2026-01-31T10:00:00Z',
            ], $paths),
        ]);
    }

    /** @param list<string> $failed */
    private function marker(string $scan, int $batches = 1, string $status = 'COMPLETED', array $failed = []): string
    {
        return json_encode([
            'type' => 'scan.completed', 'scan_id' => 'scn_1', 'correlation_id' => $scan, 'status' => $status,
            'total_batches' => $batches, 'total_documents' => 0, 'failed_folders' => $failed,
        ]);
    }

    private function deliver(
        string $body,
        ?string $token = self::TOKEN,
        ?string $secret = 'whsec_bm5ubm5ubm5ubm5ubm5ubm5ubm5ubm5ubm5ubm5ubm4=', // pragma: allowlist secret
        ?string $webhookId = null,
        ?int $at = null,
        ?string $received = null,
    ): TestResponse {
        $id = $webhookId ?? 'msg_' . ++$this->sent;
        $at ??= time();
        $key = base64_decode(substr((string) $secret, strlen('whsec_')));
        $server = [
            'CONTENT_TYPE' => 'application/json',
            'HTTP_WEBHOOK_ID' => $id,
            'HTTP_WEBHOOK_TIMESTAMP' => (string) $at,
            'HTTP_WEBHOOK_SIGNATURE' => $secret === null ? null : 'v1,' . base64_encode(hash_hmac('sha256', "$id.$at.$body", $key, true)),
            'HTTP_PRIVATE_TOKEN' => $token,
        ];

        return $this->call('POST', '/callbacks/dossier', [], [], [], array_filter($server, 'is_string'), $received ?? $body);
    }

    private function dossierAnswers(array $body, int $status): void
    {
        Http::swap(new \Illuminate\Http\Client\Factory);
        Http::fake(['dossier.test/*' => Http::response($body, $status)]);
    }

    private function assertScan(string $id, string $status, ?string $error = null): void
    {
        $scan = DB::table('scans')->where('correlation_id', $id)->first();
        $this->assertSame([$status, $error], [$scan->status, $scan->error]);
    }

    /** @return list<string> */
    private function missing(): array
    {
        return DB::table('documents')->whereNotNull('missing_since')->orderBy('path')->pluck('path')->all();
    }

    private static function secret(string $letter): string
    {
        return 'whsec_' . base64_encode(str_repeat($letter, 32));
    }
}
