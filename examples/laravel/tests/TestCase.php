<?php

namespace Tests;

use App\Providers\DossierServiceProvider;
use Illuminate\Config\Repository;
use Illuminate\Contracts\Console\Kernel as ConsoleKernel;
use Illuminate\Contracts\Debug\ExceptionHandler;
use Illuminate\Contracts\Http\Kernel as HttpKernel;
use Illuminate\Foundation;
use Illuminate\Foundation\Application;
use Illuminate\Foundation\Testing\TestCase as LaravelTestCase;
use Illuminate\Http\Request;
use Illuminate\Support\Facades\Facade;

/** As small an application as the example needs; in your own application its own TestCase stands here. */
abstract class TestCase extends LaravelTestCase
{
    private const PROVIDERS = [
        \Illuminate\Bus\BusServiceProvider::class,
        \Illuminate\Cache\CacheServiceProvider::class,
        \Illuminate\Database\DatabaseServiceProvider::class,
        \Illuminate\Filesystem\FilesystemServiceProvider::class,
        \Illuminate\Queue\QueueServiceProvider::class,
        Foundation\Providers\ConsoleSupportServiceProvider::class,
        Foundation\Providers\FoundationServiceProvider::class,
        DossierServiceProvider::class,
    ];

    public $mockConsoleOutput = false;

    public function createApplication(): Application
    {
        $app = new Application(dirname(__DIR__));
        $app->singleton(HttpKernel::class, Foundation\Http\Kernel::class);
        $app->singleton(ConsoleKernel::class, Foundation\Console\Kernel::class);
        $app->singleton(ExceptionHandler::class, Foundation\Exceptions\Handler::class);
        $app->instance('request', Request::create('http://localhost'));
        $app->instance('config', new Repository($this->config()));
        $app->detectEnvironment(fn () => 'testing');
        Facade::setFacadeApplication($app);
        array_map($app->register(...), self::PROVIDERS);
        $app->boot();
        $app->bootstrapWith([]); // done: the kernels would look for configuration files

        return $app;
    }

    /** @return array<string, mixed> */
    private function config(): array
    {
        return [
            'app' => ['debug' => true, 'locale' => 'en', 'fallback_locale' => 'en'],
            'cache' => ['default' => 'array', 'stores' => ['array' => ['driver' => 'array']]],
            'database' => [
                'default' => 'sqlite',
                'migrations' => 'migrations',
                'connections' => ['sqlite' => ['driver' => 'sqlite', 'database' => ':memory:', 'foreign_key_constraints' => true]],
            ],
            'logging' => ['default' => 'null', 'channels' => ['null' => ['driver' => 'monolog', 'handler' => \Monolog\Handler\NullHandler::class]]],
            'queue' => ['default' => 'sync', 'connections' => ['sync' => ['driver' => 'sync']]],
            'dossier' => require dirname(__DIR__) . '/config/dossier.php',
        ];
    }
}
