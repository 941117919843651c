<?php

declare(strict_types=1);

use Dossier\Client;
use Dossier\ClientError;
use PHPUnit\Framework\TestCase;

final class ClientTest extends TestCase
{
    public function testADossierThatIsAwayMayBeTriedAgainAndNoSecretIsInTheError(): void
    {
        try {
            (new Client('http://127.0.0.1:1', 'very-secret-token'))->scan('scn_1');
            self::fail('answered');
        } catch (ClientError $error) {
            self::assertSame([0, 'unreachable', true], [$error->status, $error->problem, $error->mayRetry()]);
            self::assertStringNotContainsString('very-secret-token', (string) $error);
        }
    }

    public function testOtherSchemesAreNotFollowed(): void
    {
        $this->expectException(ClientError::class);
        (new Client('file://' . __DIR__))->scan('x');
    }

    /** @return iterable<array{int, string, bool}> */
    public static function refusals(): iterable
    {
        yield [429, 'rate_limited', true];
        yield [503, 'overloaded', true];
        yield [500, 'internal_error', true];
        yield [409, 'idempotency_in_progress', true];
        yield [401, 'api_key_invalid', false];
        yield [422, 'source_not_allowed', false];
    }

    /** @dataProvider refusals */
    public function testSomeRefusalsPass(int $status, string $problem, bool $passes): void
    {
        self::assertSame($passes, (new ClientError($status, $problem))->mayRetry());
    }
}
