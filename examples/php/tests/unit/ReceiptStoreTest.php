<?php

declare(strict_types=1);

use Dossier\ReceiptStore;
use PHPUnit\Framework\TestCase;

final class ReceiptStoreTest extends TestCase
{
    private string $path;

    protected function setUp(): void
    {
        $this->path = tempnam(sys_get_temp_dir(), 'receipts');
    }

    protected function tearDown(): void
    {
        unlink($this->path);
    }

    public function testKeepsAMessageOnceAndAsItCameFirst(): void
    {
        $store = ReceiptStore::inFile($this->path);
        self::assertTrue($store->keep('msg_1', '{"a":"ü"}'));
        self::assertFalse($store->keep('msg_1', '{"a":"other"}'));
        self::assertSame(['msg_1' => '{"a":"ü"}'], $store->unhandled());
    }

    public function testWhatWasKeptOutlivesTheProcess(): void
    {
        ReceiptStore::inFile($this->path)->keep('msg_1', '{}');
        $other = ReceiptStore::inFile($this->path);
        self::assertFalse($other->keep('msg_1', '{}'));
        self::assertSame(['msg_1' => '{}'], $other->unhandled());
    }

    public function testWhatWasHandledIsKnownAndNotOpenAnyMore(): void
    {
        $store = ReceiptStore::inFile($this->path);
        $store->keep('msg_1', '{}');
        $store->keep('msg_2', '{}');
        $store->handled('msg_1');
        self::assertSame(['msg_2' => '{}'], $store->unhandled());
        self::assertFalse($store->keep('msg_1', '{}'));
    }
}
