<?php

declare(strict_types=1);

use Dossier\Client;
use Dossier\ClientError;
use Dossier\ReceiptStore;
use PHPUnit\Framework\TestCase;

/**
 * Against a running Dossier and `php -S … public/receive.php`. The environment says where:
 *
 *     DOSSIER_URL       http://127.0.0.1:8000
 *     DOSSIER_TOKEN     one of its PRIVATE_TOKENS
 *     DOSSIER_EMAIL, DOSSIER_PASSWORD   somebody who is registered there
 *     DOSSIER_SOURCE    s3://bucket/prefix/ with a.pdf and b.pdf below each of one/ and two/
 *     DOSSIER_CALLBACK  the name in its SCAN_CALLBACKS of the receiver
 *     RECEIPTS          the receiver's file
 */
final class DossierTest extends TestCase
{
    public function testAPersonUploadsADocumentAndReadsItsText(): void
    {
        $client = $this->client();
        $token = $client->signIn($this->env('DOSSIER_EMAIL'), $this->env('DOSSIER_PASSWORD'));
        $document = $client->upload($token, __DIR__ . '/../../../hello.pdf');
        self::assertSame(['hello.pdf', 'UPLOADED'], [$document['filename'], $document['status']]);
        $client->process($token, $document['document_id']);
        $status = $this->until(
            static fn () => $client->status($token, $document['document_id']),
            static fn (array $status) => $status['status'] !== 'PROCESSING',
        );
        self::assertSame(['COMPLETED', 100], [$status['status'], $status['progress']]);
        self::assertSame(2, $client->result($token, $document['document_id'])['result']['page_count']);
    }

    public function testARefusalNamesItsCodeAndTheRequest(): void
    {
        try {
            $this->client()->signIn('nobody@example.com', 'not the password');
            self::fail('signed in');
        } catch (ClientError $error) {
            self::assertSame([401, 'credentials_invalid', false], [$error->status, $error->problem, $error->mayRetry()]);
            self::assertMatchesRegularExpression('/\A[A-Za-z0-9_-]{8,64}\z/', (string) $error->requestId);
        }
    }

    public function testAWrongTokenIsRefused(): void
    {
        $this->expectExceptionMessageMatches('/\ADossier: 401 api_key_invalid/');
        (new Client($this->env('DOSSIER_URL'), 'a-token-that-nobody-knows'))->scan('scn_1');
    }

    public function testAScanIsOrderedOnceAndArrivesWhole(): void
    {
        $client = $this->client();
        $correlation = 'sync_' . bin2hex(random_bytes(8));
        $order = fn () => $client->orderScan(
            'usr_php',
            ['fld_1' => $this->env('DOSSIER_SOURCE') . 'one/', 'fld_2' => $this->env('DOSSIER_SOURCE') . 'two/'],
            $this->env('DOSSIER_CALLBACK'),
            $correlation,
        );
        $scan = $order();
        self::assertSame($scan['scan_id'], $order()['scan_id'], 'a repeat is the same scan');

        $messages = $this->until(
            fn () => $this->received($correlation),
            static fn (array $messages) => isset($messages['scan.completed'])
                && count($messages['scan.batch'] ?? []) === $messages['scan.completed'][0]['total_batches'],
        );
        self::assertCount(1, $messages['scan.completed']);
        $marker = $messages['scan.completed'][0];
        self::assertSame(['COMPLETED', []], [$marker['status'], $marker['failed_folders']]);

        $found = [];
        foreach ($messages['scan.batch'] as $batch) {
            self::assertSame($scan['scan_id'], $batch['scan_id']);
            foreach ($batch['documents'] as $document) {
                $found[] = "$batch[folder_id] $document[filename]";
            }
        }
        sort($found);
        self::assertSame(['fld_1 a.pdf', 'fld_1 b.pdf', 'fld_2 a.pdf', 'fld_2 b.pdf'], $found);
        self::assertSame(4, $marker['total_documents']);

        $state = $this->until(
            static fn () => $client->scan($scan['scan_id']),
            static fn (array $state) => !in_array($state['status'], ['PENDING', 'RUNNING'], true),
        );
        self::assertSame('COMPLETED', $state['status']);
        self::assertSame([2, 4], [$state['folders_done'], $state['documents_found']]);
    }

    /** @return array<string, list<array<string, mixed>>> what the receiver kept of one scan, by type */
    private function received(string $correlation): array
    {
        $found = [];
        foreach (ReceiptStore::inFile($this->env('RECEIPTS'))->unhandled(1000) as $body) {
            $message = json_decode($body, true, flags: JSON_THROW_ON_ERROR);
            if (($message['correlation_id'] ?? null) === $correlation) {
                $found[$message['type']][] = $message;
            }
        }
        return $found;
    }

    private function until(callable $look, callable $isGood): array
    {
        $deadline = time() + 60;
        while (!$isGood($found = $look())) {
            self::assertLessThan($deadline, time(), 'too late: ' . json_encode($found));
            usleep(100_000);
        }
        return $found;
    }

    private function client(): Client
    {
        return new Client($this->env('DOSSIER_URL'), $this->env('DOSSIER_TOKEN'));
    }

    private function env(string $name): string
    {
        return getenv($name) ?: self::fail("$name is not set: see the top of " . __FILE__);
    }
}
