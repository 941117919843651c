<?php

/** Laravel from `composer install`, or else the one that Debian packages (php-laravel-framework). */

declare(strict_types=1);

$composer = __DIR__ . '/../vendor/autoload.php';
if (is_file($composer)) {
    require $composer;
} else {
    set_error_handler(static fn () => true, E_DEPRECATED | E_USER_DEPRECATED); // Laravel 8 is older than this PHP
    require_once 'GuzzleHttp/autoload.php';
    require_once 'Illuminate/autoload.php';
    require __DIR__ . '/../../php/autoload.php';
    spl_autoload_register(static function (string $class): void {
        foreach (['App\\' => '/../app/', 'Tests\\' => '/'] as $prefix => $folder) {
            if (str_starts_with($class, $prefix)) {
                require __DIR__ . $folder . strtr(substr($class, strlen($prefix)), '\\', '/') . '.php';
            }
        }
    });
}
