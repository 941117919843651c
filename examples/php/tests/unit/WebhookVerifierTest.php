<?php

declare(strict_types=1);

use Dossier\Verdict;
use Dossier\WebhookVerifier;
use PHPUnit\Framework\TestCase;

final class WebhookVerifierTest extends TestCase
{
    private const BODY = '{"type":"scan.batch"}';

    /** @return iterable<string, array{array<string, mixed>}> the vectors that Dossier's own verifier is tested with */
    public static function vectors(): iterable
    {
        $vectors = json_decode(file_get_contents(__DIR__ . '/../vectors.json'), true, flags: JSON_THROW_ON_ERROR);
        foreach ($vectors as $vector) {
            yield $vector['name'] => [$vector];
        }
    }

    /** @dataProvider vectors */
    public function testAgreesWithDossier(array $vector): void
    {
        $headers = $vector['headers'];
        $verdict = (new WebhookVerifier($vector['secrets']))->check(
            base64_decode($vector['body'], true),
            $headers['webhook-id'] ?? null,
            $headers['webhook-timestamp'] ?? null,
            $headers['webhook-signature'] ?? null,
            $vector['now'],
        );
        self::assertSame($vector['expect'], $verdict->value);
    }

    public function testTakesTheTimeOfThisMachineUnlessToldOtherwise(): void
    {
        self::assertSame(Verdict::Valid, $this->checkedAt(time()));
        self::assertSame(Verdict::Expired, $this->checkedAt(time() - 400));
    }

    /** @return iterable<array{list<string>}> */
    public static function unusable(): iterable
    {
        yield 'none' => [[]];
        yield 'empty' => [['']];
        yield 'no prefix' => [[base64_encode(str_repeat('k', 32))]];
        yield 'no base64' => [['whsec_!!!!']];
        yield 'base64 and more' => [['whsec_!' . base64_encode(str_repeat('k', 32))]];
        yield 'too short' => [['whsec_' . base64_encode(str_repeat('k', 23))]];
        yield 'too long' => [['whsec_' . base64_encode(str_repeat('k', 65))]];
        yield 'one good, one bad' => [[self::secret(), 'whsec_bad']];
    }

    /** @dataProvider unusable */
    public function testRefusesUnusableSecretsAtOnceAndDoesNotShowThem(array $secrets): void
    {
        try {
            new WebhookVerifier($secrets);
            self::fail('accepted');
        } catch (InvalidArgumentException $refused) {
            foreach (array_filter($secrets) as $secret) {
                self::assertStringNotContainsString($secret, (string) $refused);
            }
            self::assertStringContainsString('secret', $refused->getMessage());
        }
    }

    private static function secret(): string
    {
        return 'whsec_' . base64_encode(str_repeat('k', 32));
    }

    private function checkedAt(int $timestamp): Verdict
    {
        $signature = base64_encode(hash_hmac('sha256', "msg_1.$timestamp." . self::BODY, str_repeat('k', 32), true));
        return (new WebhookVerifier([self::secret()]))->check(self::BODY, 'msg_1', (string) $timestamp, "v1,$signature");
    }
}
